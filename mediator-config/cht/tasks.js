module.exports = [...require('./fhir-mediator/tasks')];
