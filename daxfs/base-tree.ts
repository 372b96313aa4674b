/** What the base beneath an overlay has, for checks. What is damaged in it counts as absent: the image's own check names it. */
import { DaxfsError } from './errors.ts';
import { type Image, type ImageInode, typeOfMode } from './image.ts';

export interface BaseName {
  parent: number;
  name: Buffer;
  ino: number;
}

export class BaseTree {
  readonly #image: Image | undefined;
  readonly #blockBytes: number;
  readonly rootIno: number;

  constructor(image: Image | undefined, rootIno: number, blockBytes: number) {
    this.#image = image;
    this.rootIno = rootIno;
    this.#blockBytes = blockBytes;
  }

  get inodeCount(): number {
    return this.#image?.inodeCount ?? 0;
  }

  has(ino: number): boolean {
    return this.mode(ino) !== 0;
  }

  /** 0: there is no such inode. */
  mode(ino: number): number {
    const mode = this.#inode(ino)?.mode ?? 0;
    return typeOfMode(mode) === 'other' ? 0 : mode;
  }

  /** Pages of a file; 0 for anything else. */
  pages(ino: number): number {
    const inode = this.#inode(ino);
    return inode && inode.type !== 'directory' ? Math.ceil(inode.size / this.#blockBytes) : 0;
  }

  /** Every name of every directory. */
  *names(): Generator<BaseName> {
    for (let parent = 1; parent <= this.inodeCount; parent++) {
      if (typeOfMode(this.mode(parent)) !== 'directory') continue;
      try {
        for (const { name, ino } of this.#image!.entries(this.#image!.inode(parent))) yield { parent, name, ino };
      } catch (error) {
        if (!(error instanceof DaxfsError)) throw error;
      }
    }
  }

  #inode(ino: number): ImageInode | undefined {
    if (!this.#image || ino < 1 || ino > this.#image.inodeCount) return undefined;
    try {
      return this.#image.inode(ino);
    } catch (error) {
      if (!(error instanceof DaxfsError)) throw error;
      return undefined;
    }
  }
}
