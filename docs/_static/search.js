// Sphinx fetches a found page to show what was found in it, which a browser refuses to pages opened from file://.
// Their texts came as a script (searchtext.js): answer from there.
const fetchPage = window.fetch;
window.fetch = (url, ...rest) => {
  const doc = decodeURI(String(url)).replace(/^\.\//, "").replace(/\.html$/, "");
  return doc in SITE_TEXT
    ? Promise.resolve(new Response(`<div role="main">${SITE_TEXT[doc]}</div>`))
    : fetchPage(url, ...rest);
};
