// phone.js: what a CHW sees with the compiled configuration, and fills. Reads a story from standard input:
// {user, subject, docs, now?, fill?: {task or form, answers}}; `docs` are what CHT would have put on the phone. Writes
// {tasks, states, cards, context, targets}, and if a form was filled {filled, errors, left}. Tasks are computed by CHT's
// own rules engine; forms are filled in Chromium, and $SCREENSHOT is a picture of the form before.
const id = require.resolve('puppeteer-chromium-resolver');
require.cache[id] = {
  id,
  filename: id,
  loaded: true,
  // The machine's own Chromium, and none that is downloaded.
  exports: async () => ({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', puppeteer: require('puppeteer-core') }),
};
const Harness = require('cht-conf-test-harness');

const told = ({ owner, state, emission }) => ({
  owner,
  state,
  id: emission._id,
  for: emission.forId,
  contact: emission.contact && emission.contact.name,
  title: emission.title,
  due: emission.dueDate,
  priority: emission.priority,
  priority_label: emission.priorityLabel,
  form: emission.actions[0].form,
});

const look = async phone => ({
  tasks: (await phone.getTasks()).map(told),
  states: await phone.countTaskDocsByState(),
  ...await phone.getContactSummary(),
  targets: (await phone.getTargets()).map(({ id, value }) => ({ id, value })),
});

const open = async (phone, { task, form }) => {
  if (form) {
    return phone.loadForm(form, { content: { source: 'contact' } });
  }
  const found = (await phone.getTasks()).find(({ emission }) => emission._id === task);
  if (!found) {
    throw new Error(`no task ${task}`);
  }
  return phone.loadAction(found);
};

const fill = async (phone, wanted) => {
  await phone.start();
  await open(phone, wanted);
  if (process.env.SCREENSHOT) {
    await phone.page.setViewport({ width: 480, height: 1400 });
    await phone.page.screenshot({ path: process.env.SCREENSHOT });
  }
  return phone.fillForm(...wanted.answers);
};

const play = async ({ user, subject, docs, now, fill: wanted }) => {
  const phone = new Harness({
    directory: process.env.PROJECT,
    args: ['--no-sandbox', '--disable-gpu', '--allow-file-access-from-files'],
    headless: true,
    logFormErrors: false,
    user,
    userRoles: ['chw'],
    subject,
    docs,
  });
  try {
    if (now) {
      phone.setNow(now);
    }
    const seen = await look(phone);
    if (!wanted) {
      return seen;
    }
    const filled = await fill(phone, wanted);
    return { ...seen, errors: filled.errors, filled: filled.report, left: await look(phone) };
  } finally {
    await phone.stop();
  }
};

const main = async () => {
  const text = await new Promise(done => {
    const pieces = [];
    process.stdin.on('data', piece => pieces.push(piece)).on('end', () => done(Buffer.concat(pieces).toString()));
  });
  const story = JSON.parse(text);
  // The harness talks; the answer stands alone on standard output.
  const answer = process.stdout.write.bind(process.stdout);
  process.stdout.write = process.stderr.write.bind(process.stderr);
  const seen = await play(story);
  await new Promise(done => answer(JSON.stringify(seen), done));
};

main().then(() => process.exit(0), why => {
  console.error(why);
  process.exit(1);
});
