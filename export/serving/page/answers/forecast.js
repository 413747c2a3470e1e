// Values that continue the first channel of the series in the request.
answerKinds.forecast = (answer, shown, model, request) => {
  const name = shown.outputs[0];
  const series = Object.values(request).find((value) => Array.isArray(value) && Array.isArray(value[0]));
  const past = series ? series.map((row) => row[0]) : [];
  const text = answer[name].flat(9).map(show).join(", ");
  return [curve([past], `the series, then the forecast: ${text}`, answer[name].flat(9)), element("p", {}, [`${name}: ${text}`])];
};
