Profile: Visit
Parent: Encounter
Id: visit
Title: "Visit of a community health worker"
Description: "A CHW saw a patient, or looked for one: made from a report."
* insert MadeFromAReport
* identifier[report] 1..1
* class from http://terminology.hl7.org/ValueSet/v3-ActEncounterCode (extensible)
* class.system 1..1
* class.code 1..1
* subject 1..1
* subject only Reference(Patient)
* period 1..1
* period.start 1..1
* participant MS
* basedOn MS
* serviceProvider MS

Profile: Answer
Parent: Observation
Id: answer
Title: "Answer of a form"
Description: "What was answered to one question of a CHT form. The question is coded by its place in the form; where the field has a standard code for it, by that too."
* insert MadeFromAReport
* identifier[report] 1..1
* status = #final
* subject 1..1
* subject only Reference(Patient)
* encounter 1..1
* effective[x] 1..1
* effective[x] only dateTime

Profile: FollowUpOutcome
Parent: Answer
Id: follow-up-outcome
Title: "What came of a follow-up"
Description: "Whether a CHW found whom a clinic asked for, by the same code whatever form they filled."
* code = FollowUpQuestionCodes#outcome
* value[x] only CodeableConcept
* value[x] 1..1
* valueCodeableConcept from Outcomes (required)

Profile: NextVisit
Parent: Answer
Id: next-visit
Title: "Next visit"
Description: "When the patient is to come, or the CHW to go, again: by the same code whatever form they filled."
* code = FollowUpQuestionCodes#next-visit
* value[x] only dateTime
* value[x] 1..1

Profile: Answers
Parent: QuestionnaireResponse
Id: answers
Title: "Answers of a form, as a whole"
Description: "A CHT form as one QuestionnaireResponse, for systems that take the answers so. A mapping can make it beside the Observations or in their place."
* identifier 1..1
* identifier.system 1..1
* identifier.value 1..1
* subject 1..1
* subject only Reference(Patient or Location)
* subject ^short = "The patient; of a report about a place, the place"
* authored 1..1
* item 1..*

Profile: Message
Parent: Communication
Id: message
Title: "Message about a patient"
Description: "Words that one side has for the other about a patient."
* subject 1..1
* subject only Reference(Patient)
* payload 1..*
* sent MS

Profile: ReferralBundle
Parent: Bundle
Id: referral-bundle
Title: "Referral as one transaction"
Description: "All that a referral brings: whoever takes it takes it whole."
* type = #transaction
* entry 1..*
* entry.fullUrl 1..1
* entry.resource 1..1
* entry.request 1..1
* entry ^slicing.discriminator.type = #type
* entry ^slicing.discriminator.path = "resource"
* entry ^slicing.rules = #open
* entry contains patient 1..* and visit 1..* and request 1..1 and task 1..1
* entry[patient].resource only Patient
* entry[visit].resource only Encounter
* entry[request].resource only ServiceRequest
* entry[task].resource only Task
