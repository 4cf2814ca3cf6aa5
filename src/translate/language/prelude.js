// What a script finds around it. The engine stops code that runs too long, but not its own loops over
// a long text or list: `spend` is told beforehand what such a loop will cost, and ends the script.
(function (spend) {
  const { apply } = Reflect;
  const { isArray } = Array;
  const no = (what) => { throw new Error(what); };
  const source = Object.getOwnPropertyDescriptor(RegExp.prototype, 'source').get;
  const isRegExp = (value) => {
    try { apply(source, value, []); return true; } catch { return false; }
  };
  // An object could be of one size when it is asked, and of another when it is used.
  const plain = (value) => typeof value === 'object' && value !== null && !isRegExp(value) ? String(value) : value;
  const size = (value) => typeof value === 'string' || isArray(value) ? value.length : 1;
  const largest = (values) => {
    let most = 1;
    for (let i = 0; i < values.length; i++) if (size(values[i]) > most) most = size(values[i]);
    return most;
  };
  const guard = (holder, names, cost, receiver = (own) => own, argument = (given) => given) => {
    for (const name of names.split(' ')) {
      const native = holder[name];
      holder[name] = function (...given) {
        const own = receiver(this);
        for (let i = 0; i < given.length; i++) given[i] = argument(given[i]);
        spend(cost(own, given));
        return apply(native, own, given);
      };
    }
  };

  const text = (own) => typeof own === 'string' ? own : own == null ? no('no text') : String(own);
  guard(String.prototype, 'includes indexOf lastIndexOf split replace replaceAll',
    (own, given) => own.length * largest(given), text, plain);
  guard(String.prototype, 'repeat', (own, [times]) => own.length * (times > 1 ? times : 1), text, Number);
  guard(String.prototype, 'padStart padEnd', (own, given) => own.length + (Number(given[0]) || 0), text, plain);
  // Not those that only copy: no text is so long that one of these takes a millisecond.
  guard(String.prototype, 'match matchAll search toLowerCase toUpperCase toLocaleLowerCase toLocaleUpperCase localeCompare normalize',
    (own, given) => own.length + largest(given), text, plain);
  guard(RegExp.prototype, 'exec test', (_, [subject]) => subject.length, (own) => own, String);
  guard(JSON, 'parse stringify', (_, given) => largest(given));

  const list = (own) => isArray(own) || typeof own === 'string' ? own : no('expected a list');
  guard(Array.prototype, 'includes indexOf lastIndexOf', (own, given) => own.length * largest(given), list);
  guard(Array.prototype, 'join toString toLocaleString reverse toReversed fill copyWithin slice splice toSpliced with '
    + 'shift unshift every some forEach map filter reduce reduceRight find findIndex findLast findLastIndex',
    (own, given) => own.length + given.length, list);
  guard(Array.prototype, 'sort toSorted', (own) => own.length * 20 * largest(own), list);
  guard(Array.prototype, 'concat', (own, given) => own.length + given.length * largest(given), list,
    (given) => isArray(given) ? given : [given]);
  Array.prototype.flat = function (depth = 1) {
    const made = [].concat(...list(this));
    return depth > 1 && made.some(isArray) ? made.flat(depth - 1) : made;
  };
  Array.prototype.flatMap = function (...given) { return this.map(...given).flat(); };
  guard(Array, 'from of', (_, given) => largest(given));
  guard(Object, 'assign entries fromEntries keys values getOwnPropertyNames freeze seal groupBy', (_, given) => largest(given));

  // Whatever the engine walks by these, it walks by a step of ours.
  for (const empty of [[], '', new Map(), new Set()]) {
    const walk = Object.getPrototypeOf(empty[Symbol.iterator]());
    const { next } = walk;
    walk.next = function () { return apply(next, this, []); };
  }

  // What could make code out of text, or walk something of unknown length.
  for (const one of [function () {}, function* () {}]) delete Object.getPrototypeOf(one).constructor;
  for (const name of ['eval', 'Function', 'BigInt', 'Iterator', 'WeakMap', 'WeakSet']) delete globalThis[name];
  delete String.raw;
  delete Array.fromAsync;
  Math.random = () => no('there is no randomness here');
})
