/**
 * Texts that many games have in common (names, commands), kept once: with thousands of games held at a
 * time they would take as much as all else.
 */

/** A guard for programs that see worlds without end; games in use keep their texts. */
const mostTexts = 500_000;

const texts = new Map<string, string>();

/** The copy of the text that all games share. Pass none that was cut from a longer one: it would be kept. */
export function sharedText(text: string): string {
  const known = texts.get(text);
  if (known !== undefined) return known;
  if (texts.size >= mostTexts) texts.clear();
  texts.set(text, text);
  return text;
}
