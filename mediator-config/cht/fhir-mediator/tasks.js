// A record of the mediator raises a task on the patient's CHW; a report that answers it, or a record that
// withdraws it, takes it away.
const requests = require('./requests');

// As long as nobody answers and nobody withdraws it: the mediator itself says when it is too late.
const EVENTS = [{
  id: 'asked',
  start: 365,
  end: 365,
  dueDate: (event, contact, report) => new Date(requests.dueTime(contact.reports, report)),
}];

const text = value => value === undefined || value === null ? '' : String(value);

const forTheForm = fields => (content, contact, report) => {
  for (const [name, value] of Object.entries(fields(report.fields))) {
    content[`t_${name}`] = text(value);
  }
  content.t_due_date = requests.asDay(report.fields.due_date);
  content.t_facility = text(report.fields.facility);
  content.t_note = text(report.fields.note);
  content.t_attempt = text(requests.answers(contact.reports, report).length + 1);
};

const task = (name, forms, form, fields) => ({
  name: `fhir-mediator.${name}`,
  icon: 'icon-follow-up',
  title: `task.fhir_mediator.${name}`,
  appliesTo: 'reports',
  appliesToType: forms,
  appliesIf: (contact, report) => !!contact.contact && requests.isRequest(report) &&
    requests.isFirstCopy(contact.reports, report) && !requests.SUPERVISORS.includes((user || {}).role),
  resolvedIf: (contact, report) => requests.isAnswered(contact.reports, report) ||
    !!requests.withdrawal(contact.reports, report),
  priority: (contact, report) => requests.isUrgent(report) ?
    { level: 'high', label: 'task.fhir_mediator.urgent' } : {},
  events: EVENTS,
  actions: [{ type: 'report', form, label: `task.fhir_mediator.${name}`, modifyContent: forTheForm(fields) }],
});

module.exports = [
  task('ltfu', ['LTFU_REQUEST', 'INTEROP_FOLLOW_UP'], 'ltfu_follow_up', fields => ({
    program: fields.program,
    reason: fields.reason,
    appointment_date: requests.asDay(fields.appointment_date),
    last_visit: requests.asDay(fields.last_visit),
    phone: fields.phone,
  })),
  task('contact_tracing', ['CONTACT_TRACING'], 'contact_tracing_follow_up', fields => ({
    disease: fields.disease,
    contact_name: fields.contact_name,
    contact_phone: fields.contact_phone,
    contact_age: fields.contact_age,
    contact_sex: fields.contact_sex,
    relation: fields.relation,
    exposure_date: requests.asDay(fields.exposure_date),
    risk: fields.risk,
  })),
  task('clinic_result', ['CLINIC_RESULT'], 'clinic_result_follow_up', fields => ({
    what: fields.what,
    value: fields.value,
    date: requests.asDay(fields.date),
  })),
];
