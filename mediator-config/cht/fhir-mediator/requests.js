// What clinics ask for by way of the mediator, and what came of it: the same for tasks, targets and the
// contact's page. `reports` are always those about one contact.

// Who leads CHWs sees their people too, but does not do their tasks.
const SUPERVISORS = ['chw_supervisor'];

const DAY = 24 * 60 * 60 * 1000;

// By the form of the record: what answers it, what withdraws it, and within how many days it is to be done
// if the clinic does not say.
const KINDS = {
  LTFU_REQUEST: { answers: ['ltfu_follow_up'], cancel: 'LTFU_CANCEL', days: { urgent: 2, other: 7 } },
  INTEROP_FOLLOW_UP: { answers: ['ltfu_follow_up', 'interop_follow_up'], cancel: 'LTFU_CANCEL', days: { urgent: 2, other: 7 } },
  CONTACT_TRACING: { answers: ['contact_tracing_follow_up'], cancel: 'CONTACT_TRACING_CANCEL', days: { urgent: 1, other: 3 } },
  CLINIC_RESULT: { answers: ['clinic_result_follow_up'], days: { urgent: 2, other: 7 } },
};

const isYes = value => [true, 1, '1', 'true', 'yes'].includes(value);

// A day as CHT keeps it: as it was sent, or in milliseconds. The day here, not in Greenwich.
const asTime = value => {
  if (typeof value === 'number') {
    return value;
  }
  const [, year, month, day] = /^(\d{4})-(\d\d)-(\d\d)/.exec(value || '') || [];
  return year ? new Date(Number(year), Number(month) - 1, Number(day)).getTime() : undefined;
};

const asDay = value => {
  const time = asTime(value);
  if (time === undefined) {
    return '';
  }
  const date = new Date(time);
  const two = number => String(number).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
};

const inOrder = (a, b) => a.reported_date - b.reported_date || (a._id < b._id ? -1 : 1);

const isRequest = report => !!KINDS[report.form] && (report.form !== 'CLINIC_RESULT' || isYes(report.fields.needs_visit));

// A record may have come twice; CHT keeps both.
const copies = (reports, request) => reports
  .filter(other => other.form === request.form &&
    (other._id === request._id || (request.fields.external_id && other.fields.external_id === request.fields.external_id)))
  .sort(inOrder);

const isFirstCopy = (reports, request) => copies(reports, request)[0]._id === request._id;

// Which request a report answers: the one whose task it was filled for; without a task, all that were open.
const isAnswerTo = (reports, request, answer) => {
  if (!KINDS[request.form].answers.includes(answer.form)) {
    return false;
  }
  const inputs = answer.fields.inputs || {};
  return inputs.source === 'task' && inputs.source_id ?
    copies(reports, request).some(copy => copy._id === inputs.source_id) :
    answer.reported_date >= request.reported_date;
};

const answers = (reports, request) => reports.filter(other => isAnswerTo(reports, request, other)).sort(inOrder);

const isFinal = ({ fields }) => fields.outcome !== 'try_again' && fields.told !== 'not_yet' && !fields.next_attempt_date;

const isAnswered = (reports, request) => answers(reports, request).some(isFinal);

// The existing mediator's requests have no number: a withdrawal that is of no other request is theirs.
const withdrawal = (reports, request) => reports.find(other => {
  if (!KINDS[request.form].cancel || other.form !== KINDS[request.form].cancel) {
    return false;
  }
  return request.fields.external_id ?
    other.fields.external_id === request.fields.external_id :
    other.reported_date >= request.reported_date &&
      !reports.some(r => r.form === 'LTFU_REQUEST' && r.fields.external_id === other.fields.external_id);
});

const isOpen = (reports, request) => isFirstCopy(reports, request) &&
  !isAnswered(reports, request) && !withdrawal(reports, request);

const isUrgent = ({ fields }) => isYes(fields.urgent) || String(fields.risk || '').toLowerCase() === 'high';

// When it is to be done: when the CHW said that they would try again, else when the clinic wants it. A day that was
// over already when the clinic asked, or is years away, would keep the task from the phone.
const dueTime = (reports, request) => {
  const last = answers(reports, request).pop();
  const { reported_date } = last || request;
  const days = KINDS[request.form].days[isUrgent(request) ? 'urgent' : 'other'];
  const due = (last && asTime(last.fields.next_attempt_date)) ||
    asTime(request.fields.due_date) ||
    request.reported_date + days * DAY;
  return Math.min(Math.max(due, request.reported_date), reported_date + 365 * DAY);
};

const openRequests = (reports, ...forms) => reports
  .filter(report => (forms.length ? forms : Object.keys(KINDS)).includes(report.form))
  .filter(report => isRequest(report) && isOpen(reports, report))
  .sort((a, b) => dueTime(reports, a) - dueTime(reports, b));

module.exports = {
  SUPERVISORS, asDay, answers, dueTime, isAnswered, isFirstCopy, isRequest, isUrgent, isYes, openRequests, withdrawal,
};
