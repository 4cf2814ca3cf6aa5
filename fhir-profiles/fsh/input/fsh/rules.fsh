// An identifier without system or value cannot be found again.
RuleSet: IdentifiersByTheirSystem
* identifier 1..* MS
* identifier.system 1..1
* identifier.value 1..1
* identifier ^slicing.discriminator.type = #value
* identifier ^slicing.discriminator.path = "system"
* identifier ^slicing.rules = #open

RuleSet: Identifier(slice, system, text)
* identifier contains {slice} 0..1
* identifier[{slice}] ^short = {text}
* identifier[{slice}].system = {system} (exactly)

RuleSet: MadeFromAReport
* insert IdentifiersByTheirSystem
* insert Identifier(report, $report, "The CHT report that it was made from")

// Name and phones as CHT has them: the whole name is always there.
RuleSet: NameAndPhones
* name.text 1..1
* telecom.system 1..1
* telecom.value 1..1
* telecom.extension contains PhoneAsWritten named asWritten 0..1
