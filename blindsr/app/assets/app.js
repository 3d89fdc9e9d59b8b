// One pixel of the result is one pixel of the screen, and the divider stays where it is while the image is scrolled.
(() => {
  const setRatio = () => document.documentElement.style.setProperty('--bs-ratio', window.devicePixelRatio || 1);
  const place = (figure) => {
    const frame = figure.querySelector('.bs-frame');
    const right = figure.querySelector('.bs-right');
    const scrolls = frame.scrollWidth > frame.clientWidth + 1 || frame.scrollHeight > frame.clientHeight + 1;
    if (figure.classList.contains('bs-scrolls') !== scrolls) figure.classList.toggle('bs-scrolls', scrolls);
    const at = Number(figure.querySelector('.bs-divider input').value) / 100;
    right.style.clipPath = `inset(0 0 0 ${frame.scrollLeft + at * frame.clientWidth}px)`;
    figure.querySelector('.bs-line').style.left = `${at * frame.clientWidth}px`;
  };
  const all = () => document.querySelectorAll('.bs-compare').forEach(place);
  const figureOf = (event) => (event.target.closest ? event.target.closest('.bs-compare') : null);
  document.addEventListener('input', (event) => {
    const figure = figureOf(event);
    if (figure) place(figure);
  });
  document.addEventListener('scroll', (event) => {
    const figure = figureOf(event);
    if (figure) place(figure);
  }, true);
  // With a mouse the divider is dragged on the image; a finger scrolls it.
  const drag = (event) => {
    const figure = figureOf(event);
    if (!figure || event.pointerType !== 'mouse' || event.buttons !== 1 || !event.target.closest('.bs-canvas')) return;
    const box = figure.querySelector('.bs-frame').getBoundingClientRect();
    figure.querySelector('.bs-divider input').value = 100 * (event.clientX - box.left) / box.width;
    place(figure);
  };
  document.addEventListener('pointerdown', drag);
  document.addEventListener('pointermove', drag);
  // A dropped folder is its files in the order of their names, those of its subfolders too; Gradio takes files alone.
  const filesOf = async (entry) => {
    if (entry.name.startsWith('.')) return [];
    if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
    const reader = entry.createReader();
    const entries = [];
    for (let some = [null]; some.length;) {  // a reader gives a hundred at a time
      some = await new Promise((found, failed) => reader.readEntries(found, failed));
      entries.push(...some);
    }
    entries.sort((a, b) => a.name.localeCompare(b.name, undefined, {numeric: true}));
    return (await Promise.all(entries.map(filesOf))).flat();
  };
  document.addEventListener('drop', async (event) => {
    const box = event.target.closest ? event.target.closest('#bs-upload') : null;
    const input = box && box.querySelector('input[type=file]');
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry);
    if (!input || !entries.some((entry) => entry.isDirectory)) return;
    event.preventDefault();
    event.stopPropagation();
    event.target.dispatchEvent(new DragEvent('dragleave', {bubbles: true}));
    const chosen = new DataTransfer();
    (await Promise.all(entries.map(filesOf))).flat().forEach((file) => chosen.items.add(file));
    input.files = chosen.files;
    if (chosen.files.length) input.dispatchEvent(new Event('change', {bubbles: true}));
  }, true);
  window.addEventListener('resize', () => { setRatio(); all(); });
  document.addEventListener('DOMContentLoaded', () => {
    setRatio();
    new MutationObserver(all).observe(document.body, {childList: true, subtree: true});
  });
  setRatio();
})();
