// A file, shown as a picture: chosen, dropped, or pasted.
requestKinds.file = (input, name) => {
  let held = null;
  const picture = element("img", { alt: "", hidden: true });
  const said = element("p", { className: "quiet" }, ["Choose an image, drop it here, or paste it."]);
  const field = element("input", { type: "file", id: `input-${name}`, accept: "image/*,.bmp" });
  const box = element("div", { className: "drop" }, [field, said, picture]);
  const showPicture = (data, text) => {
    held = data;
    picture.src = `data:image/*;base64,${data}`;
    picture.hidden = false;
    picture.alt = text;
    said.textContent = text;
  };
  const take = async (file) => {
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    showPicture(btoa(text), `${file.name || "pasted image"}, ${bytes.length} bytes`);
    if (box.isConnected) predict();
  };
  field.addEventListener("change", () => field.files[0] && take(field.files[0]));
  dropping(box, take);
  pasting(box, take);
  return {
    parts: [box],
    isFile: true,
    get: () => {
      if (held === null) throw new Error("There is no image yet. Choose, drop or paste one.");
      return { b64: held };
    },
    set: (value) => showPicture(value.b64, "golden example"),
    picture: (value) => `data:image/*;base64,${value.b64}`,
    label: () => "image",
  };
};
