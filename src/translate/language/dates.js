// Dates for a script that names them. What would make a repeat of a message give something else is not
// there: the time of day, and the time zone of the machine. What names no zone is in UTC.
(function () {
  const D = Date;
  const own = D.prototype;
  const { apply } = Reflect;
  // The script may find it taken away.
  const { includes } = String.prototype;
  const has = (given, part) => apply(includes, given, [part]);
  const no = (what) => { throw new Error(what); };
  const clock = () => no('there is no clock here: use message.received');
  let zone;
  const zoned = (given) => {
    if (typeof given !== 'string' || !has(given, ':')) return given;
    zone ??= new RegExp('(z|utc|gmt|[+-]\\d\\d:?\\d\\d)\\s*(\\(.*\\))?$', 'i');
    return zone.test(given) ? given : given + (has(given, 'T') ? 'Z' : ' UTC');
  };
  function Fixed(...given) {
    if (given.length === 0 || !new.target) clock();
    return given.length > 1 ? new D(D.UTC(...given)) : new D(zoned(given[0]));
  }
  Fixed.prototype = own;
  own.constructor = Fixed;
  Fixed.parse = (given) => D.parse(zoned(String(given)));
  Fixed.UTC = D.UTC;
  Fixed.now = clock;
  for (const part of ['FullYear', 'Month', 'Date', 'Day', 'Hours', 'Minutes', 'Seconds', 'Milliseconds']) {
    own['get' + part] = own['getUTC' + part];
    if (part !== 'Day') own['set' + part] = own['setUTC' + part];
  }
  own.getTimezoneOffset = () => 0;
  own.toString = own.toUTCString;
  for (const name of ['toDateString', 'toTimeString', 'toLocaleString', 'toLocaleDateString', 'toLocaleTimeString', 'getYear', 'setYear']) {
    own[name] = () => no('it depends on the place: use toISOString');
  }
  globalThis.Date = Fixed;
})
