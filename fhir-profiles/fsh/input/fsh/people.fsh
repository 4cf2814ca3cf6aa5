Profile: ChtPatient
Parent: Patient
Id: cht-patient
Title: "Patient of CHT"
Description: "A person whom community health workers care for. Made from a CHT person; from a report of whose patient only a name is known, only with identifiers."
* insert IdentifiersByTheirSystem
* insert Identifier(uuid, $uuid, "_id of the CHT person")
* insert Identifier(shortcode, $shortcode, "patient_id: the short code that CHWs read out")
* insert Identifier(externalId, $external-id, "external_id as typed into CHT")
* insert NameAndPhones
* extension contains Household named household 0..1 and Muted named muted 0..1 and Notes named notes 0..1 and RoleInCht named role 0..1 and RegisteredBy named registeredBy 0..1 and SexAsWritten named sexAsWritten 0..1
* birthDate.extension contains BirthDateEstimated named estimated 0..1
* deceased[x] only dateTime or boolean
* active MS
* gender MS
* birthDate MS
* address MS
* managingOrganization MS

Profile: ChtRelatedPerson
Parent: RelatedPerson
Id: cht-related-person
Title: "Contact of a patient"
Description: "Somebody who has been in contact with a patient, or cares for one, and is to be found: by a name or a phone."
* patient MS
* name.text 0..1
* telecom.system 1..1
* telecom.value 1..1
* relationship MS
* gender MS
* birthDate MS

Profile: ChtPractitioner
Parent: Practitioner
Id: cht-practitioner
Title: "Community health worker"
Description: "Somebody who cares for patients: CHW, supervisor, nurse. Made from a CHT person with such a role."
* insert IdentifiersByTheirSystem
* insert Identifier(uuid, $uuid, "_id of the CHT person")
* insert Identifier(shortcode, $shortcode, "patient_id: the short code that CHT gives to every person")
* insert Identifier(externalId, $external-id, "external_id as typed into CHT")
* insert NameAndPhones
* extension contains Muted named muted 0..1 and Notes named notes 0..1 and SexAsWritten named sexAsWritten 0..1
* birthDate.extension contains BirthDateEstimated named estimated 0..1
* active MS
* name MS
* telecom MS

Profile: ChtPractitionerRole
Parent: PractitionerRole
Id: cht-practitioner-role
Title: "Role of a community health worker"
Description: "Where somebody cares for patients, and as what."
* insert IdentifiersByTheirSystem
* practitioner 1..1 MS
* organization MS
* code from ChtRoles (preferred)
