// This month's requests of clinics: how many came, and how many of them are done.
const requests = require('./requests');

const FORMS = ['LTFU_REQUEST', 'INTEROP_FOLLOW_UP', 'CONTACT_TRACING'];

const target = (id, more) => ({
  id: `fhir-mediator-${id}`,
  icon: 'icon-follow-up',
  translation_key: `targets.fhir_mediator.${id}`,
  appliesTo: 'reports',
  appliesToType: FORMS,
  appliesIf: (contact, report) => requests.isFirstCopy(contact.reports, report),
  idType: 'report',
  date: 'reported',
  aggregate: true,
  ...more,
});

module.exports = [
  target('received', { type: 'count', goal: -1, subtitle_translation_key: 'targets.this_month.subtitle' }),
  target('done', {
    type: 'percent',
    goal: 100,
    subtitle_translation_key: 'targets.this_month.subtitle',
    percentage_count_translation_key: 'targets.fhir_mediator.count',
    // What the clinic withdrew is nobody's to do any more.
    appliesIf: (contact, report) => requests.isFirstCopy(contact.reports, report) &&
      (requests.isAnswered(contact.reports, report) || !requests.withdrawal(contact.reports, report)),
    passesIf: (contact, report) => requests.isAnswered(contact.reports, report),
  }),
];
