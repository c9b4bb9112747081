/**
 * Writes XML answers. Text is escaped so that a parser gives back exactly what was put in: `&`, `<`, `>`, and `\r`
 * as a reference, since XML turns a bare one into `\n`. Characters that XML 1.0 cannot carry at all become U+FFFD;
 * keys with such characters are refused (store/names.ts), so this touches only echoed input.
 */
export const XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
export const S3_NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/'

const SPECIAL = /[&<>"\r\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff\ud800-\udfff]/
const SPECIAL_ALL =
  /[&<>"\r]|[\ud800-\udbff][\udc00-\udfff]|[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff\ud800-\udfff]/g

function escapeOne(found: string): string {
  switch (found) {
    case '&': return '&amp;'
    case '<': return '&lt;'
    case '>': return '&gt;'
    case '"': return '&quot;'
    case '\r': return '&#13;'
    default: return found.length === 2 ? found : '\ufffd'
  }
}

export function escapeXml(text: string): string {
  return SPECIAL.test(text) ? text.replace(SPECIAL_ALL, escapeOne) : text
}

/** `<name>text</name>`. Names are ours, or come from S3Error fields, never from a client. */
export function element(name: string, value: string | number | boolean): string {
  return `<${name}>${typeof value === 'string' ? escapeXml(value) : String(value)}</${name}>`
}

/** A whole document: the root element in S3's namespace around `inner`, which is XML already. */
export function document(root: string, inner: string): string {
  return `${XML_DECLARATION}<${root} xmlns="${S3_NAMESPACE}">${inner}</${root}>`
}

/** xs:dateTime with milliseconds, as S3 writes it. */
export function xmlDate(ms: number): string {
  return new Date(ms).toISOString()
}
