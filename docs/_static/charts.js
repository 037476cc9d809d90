// Plotly's charts from notebooks, live, and in the page's colours.
const styled = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

function colours(layout) {
  const axes = Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k));
  const text = styled("--color-foreground-primary"), line = styled("--color-background-border");
  const grid = Object.fromEntries(axes.flatMap((k) => [[`${k}.gridcolor`, line], [`${k}.linecolor`, line], [`${k}.zerolinecolor`, line]]));
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": text, "legend.bgcolor": "rgba(0,0,0,0)",
           "legend.font.color": text, "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": styled("--color-foreground-muted"),
           "modebar.activecolor": text, ...grid };
}

document.querySelectorAll("div.chart").forEach((chart) => {
  const figure = JSON.parse(chart.querySelector("script").textContent);
  const layout = { ...figure.layout, autosize: true };
  delete layout.width;
  if (chart.clientWidth < 520) { // a phone: the legend wraps, and goes where nothing is in its way
    layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: -0.16, yanchor: "top" };
    layout.margin = { ...layout.margin, l: 48, r: 8, b: 40 };
  }
  Plotly.newPlot(chart, figure.data, layout, { responsive: true, displaylogo: false }).then(() => {
    const dress = () => Plotly.relayout(chart, colours(chart.layout));
    dress();
    new MutationObserver(dress).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
  });
});
