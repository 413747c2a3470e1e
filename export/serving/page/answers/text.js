answerKinds.text = (answer, shown) => shown.outputs.map((name) => element("blockquote", { dir: "auto" }, [String(answer[name])]));
