const mediator = require('./fhir-mediator/contact-summary');

module.exports = {
  fields: [],
  cards: [...mediator.cards(reports)],
  context: { ...mediator.context(reports) },
};
