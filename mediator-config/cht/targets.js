module.exports = [...require('./fhir-mediator/targets')];
