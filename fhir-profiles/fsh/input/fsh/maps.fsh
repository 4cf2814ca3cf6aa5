RuleSet: Map(map, title, description, target)
* name = {map}
* title = {title}
* status = #active
* description = {description}
* group.source = "urn:cht:question"
* group.target = {target}

RuleSet: To(question, code, display)
* group.element[+].code = {question}
* group.element[=].target.code = {code}
* group.element[=].target.display = {display}
* group.element[=].target.equivalence = #equivalent

// Questions by the names that CHT's default forms and their kin give them, whatever group they stand in.
// Only what a name says beyond doubt: `weight` is in grams here and in kilograms there.
Instance: cht-questions-loinc
InstanceOf: ConceptMap
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/ConceptMap/cht-questions-loinc"
* insert Map("ChtQuestionsLoinc", "Questions of CHT forms in LOINC", "What is measured or dated.", $loinc)
* insert To(#temperature, #8310-5, "Body temperature")
* insert To(#body_temperature, #8310-5, "Body temperature")
* insert To(#malaria_temp, #8310-5, "Body temperature")
* insert To(#temp_infra, #8310-5, "Body temperature")
* insert To(#temp_clinical, #8310-5, "Body temperature")
* insert To(#breathing_count, #9279-1, "Respiratory rate")
* insert To(#birth_weight, #8339-4, "Birth weight Measured")
* insert To(#birth_length, #89269-5, "Body height Measured --at birth")
* insert To(#lmp_date, #8665-2, "Last menstrual period start date")
* insert To(#lmp_date_8601, #8665-2, "Last menstrual period start date")
* insert To(#edd, #11778-8, "Delivery date Estimated")
* insert To(#edd_8601, #11778-8, "Delivery date Estimated")
* insert To(#weeks_since_lmp, #18185-9, "Gestational age")
* insert To(#weeks_since_lmp_rounded, #18185-9, "Gestational age")

Instance: cht-questions-snomed
InstanceOf: ConceptMap
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/ConceptMap/cht-questions-snomed"
* insert Map("ChtQuestionsSnomed", "Questions of CHT forms in SNOMED CT", "Signs that are asked for; the codes are in SNOMED's Global Patient Set\, which is free to use.", $sct)
* insert To(#fever, #386661006, "Fever")
* insert To(#danger_signs_fever, #386661006, "Fever")
* insert To(#fits, #91175000, "Seizure")
* insert To(#convulsion, #91175000, "Seizure")
* insert To(#convulsions, #91175000, "Seizure")
* insert To(#severe_headache, #25064002, "Headache")
* insert To(#breathlessness, #267036007, "Dyspnea")
* insert To(#vaginal_bleeding, #289530006, "Bleeding from vagina")
* insert To(#vaginal_discharge, #271939006, "Vaginal discharge")
* insert To(#severe_abdominal_pain, #21522001, "Abdominal pain")
* insert To(#reduced_or_no_fetal_movements, #276369006, "Reduced fetal movement")
* insert To(#easily_tired, #84229001, "Fatigue")
* insert To(#vomit, #422400008, "Vomiting")
* insert To(#danger_signs_vomit, #422400008, "Vomiting")
* insert To(#yellow_skin, #18165001, "Jaundice")
* insert To(#danger_signs_yellow, #18165001, "Jaundice")
* insert To(#blue_skin, #3415004, "Cyanosis")
* insert To(#drowsy, #271782001, "Drowsy")
* insert To(#cough_yes_no, #49727002, "Cough")
* insert To(#diarrhea_yes_no, #62315008, "Diarrhea")
* insert To(#danger_signs_chest, #29857009, "Chest pain")

Instance: cht-questions-ciel
InstanceOf: ConceptMap
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/ConceptMap/cht-questions-ciel"
* insert Map("ChtQuestionsCiel", "Questions of CHT forms in CIEL", "The concepts of OpenMRS and its kin: KenyaEMR and Bahmni know them.", $ciel)
* insert To(#temperature, #5088, "Temperature (C\)")
* insert To(#body_temperature, #5088, "Temperature (C\)")
* insert To(#malaria_temp, #5088, "Temperature (C\)")
* insert To(#breathing_count, #5242, "Respiratory rate")
* insert To(#lmp_date, #1427, "Date of last menstrual period")
* insert To(#lmp_date_8601, #1427, "Date of last menstrual period")
* insert To(#edd, #5596, "Estimated date of confinement")
* insert To(#edd_8601, #5596, "Estimated date of confinement")
* insert To(#weeks_since_lmp_rounded, #1438, "Duration of pregnancy\, weeks")
* insert To(#fever, #140238, "Fever")
* insert To(#danger_signs_fever, #140238, "Fever")
* insert To(#fits, #113054, "Seizure")
* insert To(#convulsion, #113054, "Seizure")
* insert To(#convulsions, #113054, "Seizure")
* insert To(#severe_headache, #139084, "Headache")
* insert To(#vomit, #122983, "Vomiting")
* insert To(#danger_signs_vomit, #122983, "Vomiting")
* insert To(#severe_abdominal_pain, #151, "Abdominal pain")
* insert To(#cough_yes_no, #143264, "Cough")
* insert To(#diarrhea_yes_no, #142412, "Diarrhea")

Instance: cht-sex
InstanceOf: ConceptMap
Usage: #definition
* url = "https://cht-fhir-mediator.org/fhir/ConceptMap/cht-sex"
* name = "ChtSex"
* title = "Sex in CHT to administrative gender"
* status = #active
* description = "`sex` of a CHT person as CHT's forms write it, and as SMS forms do. What is in none of its rows has no administrative gender: it is not guessed."
* group.source = "urn:cht:sex"
* group.target = "http://hl7.org/fhir/administrative-gender"
* insert To(#female, #female, "Female")
* insert To(#male, #male, "Male")
* insert To(#other, #other, "Other")
* insert To(#unknown, #unknown, "Unknown")
* insert To(#f, #female, "Female")
* insert To(#m, #male, "Male")
* insert To(#F, #female, "Female")
* insert To(#M, #male, "Male")
