// Who searches wants to do something: pages that say how come before those that describe a module, except for its name.
var Scorer = {
  score: ([doc, , , , score]) =>
    score + (/^how_to\//.test(doc) ? 18 : /^(tutorials|zh)\//.test(doc) ? 14 : /^(explanations\/|index)/.test(doc) ? 7 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
