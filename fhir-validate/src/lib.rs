//! Checks FHIR R4 resources against the snapshots of StructureDefinitions.
