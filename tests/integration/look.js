// Copyright: (c) 2026, strata.overlay contributors
// GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What test_report.py asks a page in the browser.

function shown(element) {
  return element.checkVisibility({contentVisibilityAuto: true}) && !element.closest('svg');
}

// How many pieces of text there are, and which of them lie over one another.
function overlaps() {
  const boxes = [], found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim() || !shown(node.parentElement)) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects())
      if (box.width > 1 && box.height > 1)
        boxes.push([box.left, box.top, box.right, box.bottom, node.data.trim().slice(0, 40)]);
  }
  boxes.sort((a, b) => a[1] - b[1]);
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j][1] < boxes[i][3]; j++) {
      const wide = Math.min(boxes[i][2], boxes[j][2]) - Math.max(boxes[i][0], boxes[j][0]);
      const high = Math.min(boxes[i][3], boxes[j][3]) - boxes[j][1];
      if (wide > 2 && high > 5) found.push(boxes[i][4] + ' / ' + boxes[j][4]);
    }
  return [boxes.length, found];
}

// Texts that stand out less from their ground than WCAG 2.2 asks for (4.5 to 1), with the ratio.
function contrasts() {
  const luminance = color => {
    const linear = color.match(/[\d.]+/g).slice(0, 3).map(Number).map(part => part / 255)
      .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const found = {};
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim());
    if (!text || !shown(element)) continue;
    let ground = element;
    while (getComputedStyle(ground).backgroundColor == 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
    const pair = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(luminance);
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) found[element.className + ': ' + element.textContent.trim().slice(0, 30)] = ratio;
  }
  return found;
}
