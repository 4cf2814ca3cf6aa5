RuleSet: Naming(uri)
* status = #active
* kind = #identifier
* date = "2026-11-24"
* publisher = "cht-fhir-mediator"
* uniqueId.type = #uri
* uniqueId.value = {uri}
* uniqueId.preferred = true

Instance: cht-uuid
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht:uuid")
* name = "ChtUuid"
* description = "The _id of a person in a CHT deployment."

Instance: cht-shortcode
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht:shortcode")
* name = "ChtShortcode"
* description = "The patient_id of a person in a CHT deployment: the short code that community health workers read out. Digits with leading zeros."

Instance: cht-external-id
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht:external-id")
* name = "ChtExternalId"
* description = "The external_id of a person, as typed into CHT's contact forms."

Instance: cht-place
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht:place")
* name = "ChtPlace"
* description = "The _id of a place in a CHT deployment."

Instance: cht-report
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht:report")
* name = "ChtReport"
* description = "The _id of a report in a CHT deployment, and of the resources that were made from it."

Instance: mediator-request
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht-fhir-mediator:request")
* name = "MediatorRequest"
* description = "Given by the mediator to a request that came without an identifier of its own."

Instance: mediator-in-cht
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht-fhir-mediator:in-cht")
* name = "MediatorInCht"
* description = "A CHT uuid that CHT itself has sent to the mediator or confirmed."

Instance: peer-cht
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("cht")
* uniqueId.type = #other
* name = "PeerCht"
* description = "What CHT configurations made for the TypeScript mediator write for a CHT uuid. Read, and answered as urn:cht:uuid."

Instance: mediator-transaction
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht-fhir-mediator:transaction")
* name = "MediatorTransaction"
* description = "A transaction of the mediator, as its answers name it in X-Transaction-Id."

Instance: mediator-client
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht-fhir-mediator:client")
* name = "MediatorClient"
* description = "A client of the mediator, by its id in `clients`; behind OpenHIM, OpenHIM's id and that of its client."

Instance: mediator-os-user
InstanceOf: NamingSystem
Usage: #definition
* insert Naming("urn:cht-fhir-mediator:os-user")
* name = "MediatorOsUser"
* description = "Who types a command of the mediator: a user of the machine that it runs on."
