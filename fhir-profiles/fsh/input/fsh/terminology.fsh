CodeSystem: ChtPlaceTypeCodes
Id: cht-place-type
Title: "Types of places in CHT"
Description: "`contact_type` of a place, or its `type` in CHT's default hierarchy. A deployment with a hierarchy of its own has other codes."
* ^url = "urn:cht:place-type"
* ^content = #fragment
* ^caseSensitive = true
* #clinic "Household"
* #household "Household"
* #health_center "Area of a community health worker"
* #district_hospital "Health facility"

ValueSet: ChtPlaceTypes
Id: cht-place-types
Title: "Types of places in CHT"
Description: "All of them, those of a deployment's own hierarchy too."
* include codes from system ChtPlaceTypeCodes

CodeSystem: ChtRoleCodes
Id: cht-role
Title: "Roles of those who care for patients"
Description: "`role` of a CHT person."
* ^url = "urn:cht:role"
* ^caseSensitive = true
* #chw "Community health worker"
* #chw_supervisor "Supervisor of community health workers"
* #nurse "Nurse"
* #clinician "Clinician"
* #manager "Manager"
* #midwife "Midwife"

ValueSet: ChtRoles
Id: cht-roles
Title: "Roles of those who care for patients"
Description: "All of them."
* include codes from system ChtRoleCodes

ValueSet: RequestStates
Id: request-states
Title: "How far a request can be"
Description: "A draft asks for nothing, and of `unknown` nobody can say what to do."
* http://hl7.org/fhir/request-status#active
* http://hl7.org/fhir/request-status#on-hold
* http://hl7.org/fhir/request-status#completed
* http://hl7.org/fhir/request-status#revoked
* http://hl7.org/fhir/request-status#entered-in-error

CodeSystem: RequestKindCodes
Id: request-kind
Title: "What is asked for"
Description: "Kinds of requests that CHWs carry out."
* ^caseSensitive = true
* #lost-to-follow-up "Find a patient who was lost to follow-up"
* #contact-tracing "Trace a contact of a patient"

ValueSet: ContactTracingCodes
Id: contact-tracing-codes
Title: "That a contact is to be traced"
Description: "Our own code, and SNOMED CT's."
* RequestKindCodes#contact-tracing
* $sct#225368008 "Contact tracing"

CodeSystem: OutcomeCodes
Id: follow-up-outcome
Title: "What came of a follow-up"
Description: "What a CHW's report says of a request. A form's own words are read by the table of its mapping."
* ^caseSensitive = true
* #found "Found"
* #moved "Moved away"
* #died "Died"
* #refused "Refused"
* #transferred "In care elsewhere"
* #not_found "Not found"
* #done "Done; the form does not say more"

ValueSet: Outcomes
Id: follow-up-outcomes
Title: "What came of a follow-up"
Description: "All of them."
* include codes from system OutcomeCodes

CodeSystem: FollowUpQuestionCodes
Id: follow-up-question
Title: "Questions of a follow-up"
Description: "What every follow-up tells, whichever form it was filled in."
* ^caseSensitive = true
* #outcome "What came of it"
* #next-visit "Next visit"

CodeSystem: AnswerKindCodes
Id: answer-kind
Title: "Kinds of answers"
Description: "How an answer came into a form."
* ^caseSensitive = true
* #calculated "Calculated by the form, or hidden in it: nobody was asked"

CodeSystem: RequestFlagCodes
Id: request-flag
Title: "Flag of a request"
Description: "Told by a tag (meta.tag) of a ServiceRequest or Task that the mediator shows, besides its status."
* ^caseSensitive = true
* #overdue "Overdue" "It was not done when it was due; it is still to be done."
* #expired "Expired" "Nobody did it in time; the CHW's task is gone."

CodeSystem: FollowUpIndicatorCodes
Id: follow-up-indicator
Title: "Indicator of community follow-up"
Description: "OpenHIE's indicators of its workflow for community-based follow-up."
* ^caseSensitive = true
* #created "Created" "Requests that were made in the period."
* #claimed "Claimed" "Requests whose CHW was told in the period."
* #completed "Completed" "Requests that were completed in the period; by outcome too."
