Profile: Referral
Parent: ServiceRequest
Id: referral
Title: "Referral by a community health worker"
Description: "A CHW sends a patient to a clinic. The clinic moves the Task beside it, or its status, on; CHT is told."
* insert MadeFromAReport
* identifier[report] 1..1
* intent = #order
* category 1..*
* category ^slicing.discriminator.type = #pattern
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category contains referral 1..1
* category[referral] = $sct#3457005
* code 1..1
* subject only Reference(Patient)
* encounter MS
* authoredOn 1..1
* requester MS
* performer MS
* performer ^short = "The clinic, by the number that its country gave it"
* reasonCode MS
* note MS

Profile: FollowUpRequest
Parent: ServiceRequest
Id: follow-up-request
Title: "Request that a CHW follow a patient up"
Description: "A clinic asks that a CHW find a patient who was lost to follow-up. The patient is named by an identifier that CHT knows: the CHT uuid or short code, or one that CHT sent before."
* status from RequestStates (required)
* intent MS
* category MS
* code MS
* subject only Reference(Patient)
* occurrence[x] only dateTime or Period
* occurrence[x] ^short = "When the patient was expected"
* requester MS
* requester ^short = "The organization whose Endpoint is told what came of it"
* reasonCode MS
* note MS

Profile: ContactTracingRequest
Parent: FollowUpRequest
Id: contact-tracing-request
Title: "Request that a CHW trace a contact"
Description: "A clinic asks that a CHW find somebody who has been in contact with its patient. The contact stands in it as a contained RelatedPerson."
* code 1..1
* code from ContactTracingCodes (extensible)
* reasonCode MS
* reasonCode ^short = "The disease, if the code does not say it"
* occurrence[x] ^short = "When they were in contact"

Profile: RequestTask
Parent: Task
Id: request-task
Title: "Task of a referral or of a request"
Description: "How far a referral or a follow-up is. Of a referral the clinic moves it on; a clinic may also ask for a follow-up with a Task alone."
* identifier.system 1..1
* identifier.value 1..1
* intent = #order
* code MS
* focus MS
* for 1..1
* for only Reference(Patient)
* status MS
* businessStatus MS
* output MS
* note MS

Instance: follow-up-indicators
InstanceOf: Measure
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/Measure/follow-up-indicators"
* name = "FollowUpIndicators"
* title = "Indicators of community follow-up"
* status = #active
* description = "How many requests were created, claimed and completed in a period, by programme and by place; the completed ones by outcome too. Reported at GET /fhir/MeasureReport."
* group[0].code = FollowUpIndicatorCodes#created
* insert Counted(0)
* group[1].code = FollowUpIndicatorCodes#claimed
* insert Counted(1)
* group[2].code = FollowUpIndicatorCodes#completed
* insert Counted(2)
* group[2].stratifier[2].code.text = "outcome"
* group[2].stratifier[2].criteria.language = #text/plain
* group[2].stratifier[2].criteria.expression = "the code of what came of it"

RuleSet: Counted(n)
* group[{n}].population[0].code = http://terminology.hl7.org/CodeSystem/measure-population#initial-population
* group[{n}].population[0].criteria.language = #text/plain
* group[{n}].population[0].criteria.expression = "requests to which it happened in the period"
* group[{n}].stratifier[0].code.text = "program"
* group[{n}].stratifier[0].criteria.language = #text/plain
* group[{n}].stratifier[0].criteria.expression = "what the request's category or code says"
* group[{n}].stratifier[1].code.text = "place"
* group[{n}].stratifier[1].criteria.language = #text/plain
* group[{n}].stratifier[1].criteria.expression = "the facility that asks; of a referral the one that is asked"
