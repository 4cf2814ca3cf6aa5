RuleSet: Takes(type, profile)
* rest.resource[+].type = {type}
* rest.resource[=].supportedProfile = Canonical({profile})
* rest.resource[=].interaction[0].code = #create
* rest.resource[=].interaction[1].code = #update
* rest.resource[=].conditionalCreate = true
* rest.resource[=].conditionalUpdate = true

RuleSet: Finds(who)
* rest.resource[=].documentation = "Those that the client sent, and the referrals to its facilities; the least lately changed first."
* rest.resource[=].versioning = #versioned-update
* rest.resource[=].interaction[2].code = #read
* rest.resource[=].interaction[3].code = #search-type
* rest.resource[=].searchInclude[0] = {who}
* rest.resource[=].searchParam[0].name = "_id"
* rest.resource[=].searchParam[0].type = #token
* rest.resource[=].searchParam[1].name = "identifier"
* rest.resource[=].searchParam[1].type = #token
* rest.resource[=].searchParam[2].name = "status"
* rest.resource[=].searchParam[2].type = #token
* rest.resource[=].searchParam[3].name = "subject"
* rest.resource[=].searchParam[3].type = #reference
* rest.resource[=].searchParam[3].documentation = "Patient/id, or chained: patient.identifier"
* rest.resource[=].searchParam[4].name = "requester"
* rest.resource[=].searchParam[4].type = #reference
* rest.resource[=].searchParam[4].documentation = "By identifier"
* rest.resource[=].searchParam[5].name = "_lastUpdated"
* rest.resource[=].searchParam[5].type = #date
* rest.resource[=].searchParam[6].name = "_tag"
* rest.resource[=].searchParam[6].type = #token
* rest.resource[=].searchParam[6].documentation = "overdue, expired"

RuleSet: Subscribes
* rest.resource[+].type = #Subscription
* rest.resource[=].documentation = "Rest-hooks on ServiceRequest, Task and Encounter, of the client's own."
* rest.resource[=].interaction[0].code = #create
* rest.resource[=].interaction[1].code = #read
* rest.resource[=].interaction[2].code = #update
* rest.resource[=].interaction[3].code = #delete
* rest.resource[=].interaction[4].code = #search-type
* rest.resource[+].type = #MeasureReport
* rest.resource[=].documentation = "Indicators of community follow-up, for the roles fhir and admin."
* rest.resource[=].interaction[0].code = #search-type
* rest.resource[=].searchParam[0].name = "measure"
* rest.resource[=].searchParam[0].type = #reference
* rest.resource[=].searchParam[1].name = "period"
* rest.resource[=].searchParam[1].type = #date

RuleSet: Tells(type)
* rest.resource[+].type = {type}
* rest.resource[=].documentation = "Kept on the FHIR servers, and told to the patient's CHW as the mapping clinic-result says."
* rest.resource[=].interaction[0].code = #create
* rest.resource[=].interaction[1].code = #update
* rest.resource[=].conditionalCreate = true
* rest.resource[=].conditionalUpdate = true

RuleSet: LooksUp
* rest.resource[=].documentation = "Read and searched for the role lookup: people of CHT as they are now, their places contained. One of _id, identifier, phone, or name with birthdate; also as POST to _search."
* rest.resource[=].interaction[2].code = #read
* rest.resource[=].interaction[3].code = #search-type
* rest.resource[=].searchParam[0].name = "_id"
* rest.resource[=].searchParam[0].type = #token
* rest.resource[=].searchParam[1].name = "identifier"
* rest.resource[=].searchParam[1].type = #token
* rest.resource[=].searchParam[2].name = "phone"
* rest.resource[=].searchParam[2].type = #token
* rest.resource[=].searchParam[3].name = "name"
* rest.resource[=].searchParam[3].type = #string
* rest.resource[=].searchParam[3].documentation = "How each of their names begins; with birthdate only"
* rest.resource[=].searchParam[4].name = "birthdate"
* rest.resource[=].searchParam[4].type = #date
* rest.resource[=].operation[0].name = "everything"
* rest.resource[=].operation[0].definition = "http://hl7.org/fhir/OperationDefinition/Patient-everything"

RuleSet: Trail
* rest.resource[+].type = #AuditEvent
* rest.resource[=].documentation = "The audit trail, for the role admin; as application/fhir+ndjson it is streamed whole. Next pages are asked for by `before`."
* rest.resource[=].interaction[0].code = #read
* rest.resource[=].interaction[1].code = #search-type
* rest.resource[=].searchParam[0].name = "date"
* rest.resource[=].searchParam[0].type = #date
* rest.resource[=].searchParam[1].name = "agent"
* rest.resource[=].searchParam[1].type = #token
* rest.resource[=].searchParam[1].documentation = "A client's id."
* rest.resource[=].searchParam[2].name = "entity"
* rest.resource[=].searchParam[2].type = #token
* rest.resource[=].searchParam[2].documentation = "A transaction's id, or a patient's identifier, by any that is known."
* rest.resource[=].searchParam[3].name = "action"
* rest.resource[=].searchParam[3].type = #token
* rest.resource[=].searchParam[4].name = "outcome"
* rest.resource[=].searchParam[4].type = #token

Instance: cht-fhir-mediator
InstanceOf: CapabilityStatement
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/CapabilityStatement/cht-fhir-mediator"
* name = "ChtFhirMediatorCapabilities"
* title = "What the mediator takes"
* status = #active
* date = "2026-11-26"
* publisher = "cht-fhir-mediator"
* description = "Served at GET /fhir/metadata."
* kind = #instance
* implementation.description = "Mediator between the Community Health Toolkit and FHIR systems"
* software.name = "cht-fhir-mediator"
* fhirVersion = #4.0.1
* format[0] = #application/fhir+json
* format[1] = #json
* format[2] = #application/fhir+ndjson
* rest.mode = #server
* rest.security.description = "Basic or Bearer, as configured in `clients`"
* rest.interaction[0].code = #transaction
* rest.interaction[1].code = #batch
* insert Takes(#Patient, ChtPatient)
* insert LooksUp
* insert Takes(#RelatedPerson, ChtRelatedPerson)
* insert Takes(#ServiceRequest, FollowUpRequest)
* rest.resource[=].supportedProfile[1] = Canonical(ContactTracingRequest)
* rest.resource[=].supportedProfile[2] = Canonical(Referral)
* insert Finds("ServiceRequest:subject")
* rest.resource[=].searchParam[7].name = "performer"
* rest.resource[=].searchParam[7].type = #reference
* rest.resource[=].searchParam[7].documentation = "By identifier: a facility's number"
* rest.resource[=].searchParam[8].name = "authored"
* rest.resource[=].searchParam[8].type = #date
* insert Takes(#Task, RequestTask)
* insert Finds("Task:subject")
* rest.resource[=].searchParam[7].name = "owner"
* rest.resource[=].searchParam[7].type = #reference
* rest.resource[=].searchParam[7].documentation = "By identifier: a facility's number"
* rest.resource[=].searchParam[8].name = "authored-on"
* rest.resource[=].searchParam[8].type = #date
* insert Takes(#Organization, ChtOrganization)
* insert Takes(#Endpoint, ChtEndpoint)
* insert Takes(#Encounter, Visit)
* insert Takes(#Observation, Answer)
* insert Takes(#QuestionnaireResponse, Answers)
* insert Takes(#Communication, Message)
* insert Takes(#Practitioner, ChtPractitioner)
* insert Takes(#PractitionerRole, ChtPractitionerRole)
* insert Takes(#Location, ChtLocation)
* insert Tells(#DiagnosticReport)
* insert Tells(#MedicationRequest)
* insert Tells(#Appointment)
* insert Subscribes
* insert Trail
