Profile: ChtOrganization
Parent: Organization
Id: cht-organization
Title: "Organization of CHT"
Description: "A place of CHT that is more than a household: an area, a health facility, a district. Or the organization of an EMR that asks for follow-ups."
* identifier.system 1..1
* identifier.value 1..1
* extension contains Muted named muted 0..1 and PrimaryContact named primaryContact 0..1
* name 1..1 MS
* type MS
* contact MS
* partOf MS
* endpoint MS

Profile: ChtLocation
Parent: Location
Id: cht-location
Title: "Place of CHT"
Description: "Any place of CHT's hierarchy, from the household to the district."
* insert IdentifiersByTheirSystem
* insert Identifier(place, $place, "_id of the CHT place")
* identifier[place] 1..1
* insert Identifier(shortcode, $shortcode, "place_id: the short code that CHWs read out")
* insert Identifier(externalId, $external-id, "external_id as typed into CHT")
* extension contains Muted named muted 0..1 and PrimaryContact named primaryContact 0..1
* status 1..1
* mode 1..1
* mode = #instance
* type 1..*
* type from ChtPlaceTypes (extensible)
* position MS
* partOf MS

Profile: ChtEndpoint
Parent: Endpoint
Id: cht-endpoint
Title: "Where a requester is told"
Description: "The address that is told what came of a request: PUT {address}/Encounter/{id}. It is called only if its host is allowed in the mediator's settings."
* status MS
* connectionType MS
* payloadType 1..*
* address 1..1 MS
