// Words with a colour for each tag, and the tag below.
answerKinds.pairs = (answer, shown) => {
  const [words, tags] = shown.outputs.map((name) => answer[name]);
  const pairs = words.map((word, place) => [word, tags[place]]).filter((pair) => pair[1]);
  return [tagged(pairs)];
};
