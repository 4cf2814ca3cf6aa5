Extension: Household
Id: household
Title: "Household"
Description: "The household that a person lives in, as a place in CHT."
Context: Patient
* value[x] only Reference(Location)
* value[x] 1..1

Extension: Muted
Id: muted
Title: "Muted"
Description: "Since when CHT asks for no visits of this person or place. It is gone again when CHT unmutes."
Context: Patient, Practitioner, Location, Organization
* value[x] only dateTime
* value[x] 1..1

Extension: PhoneAsWritten
Id: phone-as-written
Title: "Phone as written"
Description: "The phone number as it stands in CHT, before it was brought into E.164."
Context: ContactPoint
* value[x] only string
* value[x] 1..1

Extension: BirthDateEstimated
Id: birth-date-estimated
Title: "Birth date estimated"
Description: "The birth date was computed from an age that somebody told."
Context: Patient.birthDate, Practitioner.birthDate
* value[x] only boolean
* value[x] 1..1

Extension: RecordedInCht
Id: recorded-in-cht
Title: "Recorded in CHT"
Description: "CHT recorded this death, and may take it back; a death that a clinic recorded stays."
Context: Patient.deceased[x]
* value[x] only boolean
* value[x] 1..1

Extension: SexAsWritten
Id: sex-as-written
Title: "Sex as written"
Description: "`sex` as it stands in CHT, where it is none of the words that are known: nobody guesses what it means."
Context: Patient, Practitioner
* value[x] only string
* value[x] 1..1

Extension: Notes
Id: notes
Title: "Notes"
Description: "What was noted of a person when they were registered in CHT, or since."
Context: Patient, Practitioner
* value[x] only string
* value[x] 1..1

Extension: RoleInCht
Id: role-in-cht
Title: "Role in CHT"
Description: "What a person is in CHT, by its code or in words: `patient`, or what was specified as another role."
Context: Patient
* value[x] only string
* value[x] 1..1

Extension: RegisteredBy
Id: registered-by
Title: "Registered by"
Description: "The report by which CHT came to know a person: a delivery of a newborn, say."
Context: Patient
* value[x] only Identifier
* value[x] 1..1

Extension: PrimaryContact
Id: primary-contact
Title: "Primary contact"
Description: "Whom one speaks to at a place: the head of a household, the CHW of an area."
Context: Location, Organization
* value[x] only Reference(Patient or Practitioner)
* value[x] 1..1

Extension: AuditChain
Id: audit-chain
Title: "Place in the audit trail"
Description: "The record that this event was made of, and the hashes that bind it to the one before: `hash` is the SHA-256 of `previous` (32 bytes) followed by `record` (UTF-8)."
Context: AuditEvent
* extension contains record 1..1 and previous 1..1 and hash 1..1
* extension[record].value[x] only string
* extension[record].value[x] 1..1
* extension[record] ^short = "The record as it is kept, to the byte"
* extension[previous].value[x] only string
* extension[previous].value[x] 1..1
* extension[previous] ^short = "Hash of the record before it, in hexadecimal; zeros before the first"
* extension[hash].value[x] only string
* extension[hash].value[x] 1..1
* extension[hash] ^short = "Hash of this record, in hexadecimal"
