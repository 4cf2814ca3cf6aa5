RuleSet: Takes(type, profile)
* rest.resource[+].type = {type}
* rest.resource[=].supportedProfile = Canonical({profile})
* rest.resource[=].interaction[0].code = #create
* rest.resource[=].interaction[1].code = #update
* rest.resource[=].conditionalCreate = true
* rest.resource[=].conditionalUpdate = true

RuleSet: Reads
* rest.resource[=].interaction[2].code = #read

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
* rest.mode = #server
* rest.security.description = "Basic or Bearer, as configured in `clients`"
* rest.interaction[0].code = #transaction
* rest.interaction[1].code = #batch
* insert Takes(#Patient, ChtPatient)
* insert Takes(#RelatedPerson, ChtRelatedPerson)
* insert Takes(#ServiceRequest, FollowUpRequest)
* rest.resource[=].supportedProfile[1] = Canonical(ContactTracingRequest)
* rest.resource[=].supportedProfile[2] = Canonical(Referral)
* insert Reads
* insert Takes(#Task, RequestTask)
* insert Reads
* insert Takes(#Organization, ChtOrganization)
* insert Takes(#Endpoint, ChtEndpoint)
* insert Takes(#Encounter, Visit)
* insert Takes(#Observation, Answer)
* insert Takes(#QuestionnaireResponse, Answers)
* insert Takes(#Communication, Message)
* insert Takes(#Practitioner, ChtPractitioner)
* insert Takes(#PractitionerRole, ChtPractitionerRole)
* insert Takes(#Location, ChtLocation)
