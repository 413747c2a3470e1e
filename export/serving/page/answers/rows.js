answerKinds.rows = (answer, shown) => {
  const columns = shown.outputs.map((name) => answer[name]);
  const numbers = columns.pop();
  const rows = numbers
    .map((number, place) => [columns.map((column) => column[place]).find(Boolean) ?? "", number])
    .filter((row) => row[0] !== "");
  if (!rows.length) return [element("p", {}, ["nothing"])];
  const most = Math.max(...rows.map((row) => row[1]));
  return [bars(shown.outputs.slice(-1).map(() => "result").concat(shown.outputs.slice(-1)), rows, most > 0 ? most : 1, false)];
};
