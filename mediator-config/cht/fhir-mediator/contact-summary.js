// What a person's page shows of the clinic: what it asks for, what it found, and what became of referrals.
const requests = require('./requests');

// Your own types of people, if you have some.
const PEOPLE = ['person'];

const field = (label, value, more) => ({ label: `contact.fhir_mediator.${label}`, value, width: 6, ...more });
const day = (label, value) => field(label, requests.asDay(value), { filter: 'simpleDate' });
const whole = (label, value) => field(label, value, { width: 12 });

const filled = fields => fields.filter(({ value }) => value !== undefined && value !== null && value !== '');

const card = (label, fields) => ({
  label: `contact.fhir_mediator.${label}`,
  appliesToType: PEOPLE,
  fields: filled(fields),
});

const LABELS = {
  LTFU_REQUEST: 'ltfu',
  INTEROP_FOLLOW_UP: 'ltfu',
  CONTACT_TRACING: 'contact_tracing',
  CLINIC_RESULT: 'clinic_result_visit',
};

const asked = (reports, request) => card(LABELS[request.form], [
  field('asked_on', request.reported_date, { filter: 'simpleDate' }),
  field('due', requests.dueTime(reports, request), { filter: 'simpleDate' }),
  field('facility', request.fields.facility),
  field('reason', request.fields.reason || request.fields.disease || request.fields.what),
  day('appointment', request.fields.appointment_date),
  field('contact', request.fields.contact_name),
  field('phone', request.fields.contact_phone || request.fields.phone),
  day('exposure', request.fields.exposure_date),
  whole('note', request.fields.note),
]);

const result = ({ fields, reported_date }) => card('clinic_result', [
  field('what', fields.what),
  field('value', fields.value),
  field('date', requests.asDay(fields.date) || requests.asDay(reported_date), { filter: 'simpleDate' }),
  field('facility', fields.facility),
  whole('note', fields.note),
]);

const referral = ({ fields, reported_date }) => card('referral', [
  field('status', fields.status),
  field('date', requests.asDay(fields.seen_on) || requests.asDay(reported_date), { filter: 'simpleDate' }),
  whole('note', fields.note),
]);

const newest = (reports, form) => reports
  .filter(report => report.form === form)
  .sort((a, b) => b.reported_date - a.reported_date)
  .slice(0, 3);

const cards = reports => [
  ...requests.openRequests(reports).map(request => asked(reports, request)),
  ...newest(reports, 'CLINIC_RESULT').map(result),
  ...newest(reports, 'REF_BACK').slice(0, 1).map(referral),
];

// By it the forms' properties say on whose page a form can be opened without its task.
const context = reports => ({
  asked_by_clinic: requests.openRequests(reports, 'LTFU_REQUEST', 'INTEROP_FOLLOW_UP').length > 0,
  contact_to_trace: requests.openRequests(reports, 'CONTACT_TRACING').length > 0,
  visit_for_clinic: requests.openRequests(reports, 'CLINIC_RESULT').length > 0,
});

module.exports = { cards, context };
