// Invented people only.

Instance: example-patient
InstanceOf: ChtPatient
Usage: #example
* identifier[uuid].value = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"
* identifier[shortcode].value = "83288"
* active = true
* name.text = "Achieng Otieno"
* name.family = "Otieno"
* name.given = "Achieng"
* telecom.system = #phone
* telecom.value = "+254712345678"
* telecom.rank = 1
* telecom.extension[asWritten].valueString = "0712 345 678"
* gender = #female
* birthDate = "1992-03"
* birthDate.extension[estimated].valueBoolean = true
* extension[household].valueReference.type = "Location"
* extension[household].valueReference.identifier.system = $place
* extension[household].valueReference.identifier.value = "f4aed635-f91f-4521-8ba9-fea2d54e1d00"

Instance: example-contact
InstanceOf: ChtRelatedPerson
Usage: #example
* patient = Reference(example-patient)
* name.text = "Wanjiku Kamau"
* telecom.system = #phone
* telecom.value = "+254722000111"
* gender = #female
* relationship.text = "household"

Instance: example-chw
InstanceOf: ChtPractitioner
Usage: #example
* identifier[uuid].value = "0080eec9-92ce-4818-896a-56e74f7a1c11"
* active = true
* name.text = "Mary Njeri"

Instance: example-chw-role
InstanceOf: ChtPractitionerRole
Usage: #example
* identifier.system = $uuid
* identifier.value = "0080eec9-92ce-4818-896a-56e74f7a1c11"
* practitioner = Reference(example-chw)
* organization = Reference(example-clinic)
* code = ChtRoleCodes#chw "Community health worker"

Instance: example-clinic
InstanceOf: ChtOrganization
Usage: #example
* identifier.system = "https://example.org/facilities"
* identifier.value = "13023"
* name = "Kisumu Clinic"
* endpoint = Reference(example-endpoint)

Instance: example-endpoint
InstanceOf: ChtEndpoint
Usage: #example
* status = #active
* connectionType = $connection#hl7-fhir-rest "HL7 FHIR"
* payloadType.text = "Encounter"
* address = "https://emr.example.org/fhir"

Instance: example-household
InstanceOf: ChtLocation
Usage: #example
* identifier[place].value = "f4aed635-f91f-4521-8ba9-fea2d54e1d00"
* status = #active
* mode = #instance
* name = "Otieno household"
* type = ChtPlaceTypeCodes#clinic "Household"

Instance: example-referral
InstanceOf: Referral
Usage: #example
* identifier[report].value = "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11"
* status = #active
* priority = #urgent
* category[referral] = $sct#3457005 "Patient referral"
* code = $form#pregnancy
* code.text = "Pregnancy"
* subject = Reference(example-patient)
* encounter = Reference(example-visit)
* requester = Reference(example-chw)
* authoredOn = "2026-10-28T08:00:00Z"
* reasonCode.text = "Severe headache"

Instance: example-referral-task
InstanceOf: RequestTask
Usage: #example
* identifier.system = $report
* identifier.value = "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11"
* status = #completed
* intent = #order
* code = $task-code#fulfill
* focus = Reference(example-referral)
* for = Reference(example-patient)
* output.type.text = "outcome"
* output.valueString = "Treated; come back in two weeks"

Instance: example-visit
InstanceOf: Visit
Usage: #example
* identifier[report].value = "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11"
* status = #finished
* class = $act#HH "home health"
* subject = Reference(example-patient)
* participant.individual = Reference(example-chw)
* period.start = "2026-10-28T08:00:00Z"
* period.end = "2026-10-28T08:00:00Z"

Instance: example-answer
InstanceOf: Answer
Usage: #example
* identifier[report].value = "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11#malaria_temp"
* status = #final
* code = $loinc#8310-5 "Body temperature"
* code.text = "Malaria temp"
* subject = Reference(example-patient)
* encounter = Reference(example-visit)
* effectiveDateTime = "2026-10-28T08:00:00Z"
* valueQuantity = 37.9 'Cel' "degree Celsius"

Instance: example-answers
InstanceOf: Answers
Usage: #example
* identifier.system = $report
* identifier.value = "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11"
* status = #completed
* subject = Reference(example-patient)
* authored = "2026-10-28T08:00:00Z"
* item.linkId = "g_malaria.malaria_temp"
* item.text = "Malaria temp"
* item.answer.valueDecimal = 37.9

Instance: example-follow-up-request
InstanceOf: FollowUpRequest
Usage: #example
* identifier.system = "https://emr.example.org/requests"
* identifier.value = "SR-2026-000117"
* status = #active
* intent = #order
* category.text = "HIV"
* code = RequestKindCodes#lost-to-follow-up
* subject.identifier.system = $uuid
* subject.identifier.value = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"
* occurrenceDateTime = "2026-10-28"
* requester = Reference(example-clinic)
* reasonCode.text = "Missed ART refill"
* note.text = "Prefers to be visited in the evening"

Instance: example-contact-tracing-request
InstanceOf: ContactTracingRequest
Usage: #example
* identifier.system = "https://emr.example.org/requests"
* identifier.value = "CT-7781"
* status = #active
* intent = #order
* code = RequestKindCodes#contact-tracing
* subject.identifier.system = $uuid
* subject.identifier.value = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"
* occurrenceDateTime = "2026-11-01"
* reasonCode.text = "TB"
* contained = contact
* supportingInfo = Reference(contact)

Instance: contact
InstanceOf: RelatedPerson
Usage: #inline
* patient.identifier.system = $uuid
* patient.identifier.value = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"
* name.text = "Wanjiku Kamau"
* telecom.system = #phone
* telecom.value = "+254722000111"
* gender = #female
* relationship.text = "household"

Instance: example-message
InstanceOf: Message
Usage: #example
* status = #completed
* subject = Reference(example-patient)
* sent = "2026-10-28T08:00:00Z"
* payload.contentString = "She asks for a visit in the evening."
