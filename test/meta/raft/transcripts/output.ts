/** Collects a directive's output. At level NONE everything is dropped at the moment it is written. */
const levels = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL', 'NONE'];

type MakeError = (text: string) => Error;

export class Output {
  private parts: string[] = [];
  private level = 'DEBUG';

  clear(): void {
    this.parts = [];
  }

  text(): string {
    return this.parts.join('');
  }

  write(text: string): void {
    if (this.level !== 'NONE') this.parts.push(text);
  }

  /** Levels between DEBUG and NONE concern log lines only, and there are none here. */
  setLevel(name: string, makeError: MakeError): void {
    const level = name.toUpperCase();
    if (!levels.includes(level)) throw makeError(`log levels must be either of [${levels.join(' ')}]`);
    this.level = level;
  }

  withLevel(name: string, makeError: MakeError, run: () => void): void {
    const before = this.level;
    this.setLevel(name, makeError);
    try {
      run();
    } finally {
      this.level = before;
    }
  }

  /** What `run` writes is shifted by two spaces, and ends in a newline. */
  indented(run: () => void): void {
    const outer = this.parts;
    this.parts = [];
    try {
      run();
    } finally {
      const inner = this.text();
      this.parts = outer;
      if (inner !== '') this.write(`${inner.replace(/\n$/, '').replace(/^/gm, '  ')}\n`);
    }
  }
}
