// @ts-check

/**
 * @template E
 * @typedef {((event: E) => any) | {handleEvent(event: E): any} | null} Listener
 */

/**
 * @template E
 * @typedef {((event: E) => any) | null} Handler
 */

/**
 * An EventTarget whose events are known: `Events` has the class of the event by each name, `Other` is
 * that of all other names. Only its types say more than an EventTarget's.
 *
 * @template {object} Events
 * @template {Event} Other
 */
export class TypedTarget extends EventTarget {
  /** @type {Map<string, {call: (event: any) => void, listener: (event: Event) => void}>} */
  #handlers = new Map();

  /**
   * @template {keyof Events & string} Name
   * @overload
   * @param {Name} type
   * @param {Listener<Events[Name]>} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @overload
   * @param {string} type
   * @param {Listener<Other>} listener
   * @param {boolean | AddEventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @param {string} type
   * @param {Listener<any>} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
  }

  /**
   * @template {keyof Events & string} Name
   * @overload
   * @param {Name} type
   * @param {Listener<Events[Name]>} listener
   * @param {boolean | EventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @overload
   * @param {string} type
   * @param {Listener<Other>} listener
   * @param {boolean | EventListenerOptions} [options]
   * @returns {void}
   */
  /**
   * @param {string} type
   * @param {Listener<any>} listener
   * @param {boolean | EventListenerOptions} [options]
   */
  removeEventListener(type, listener, options) {
    super.removeEventListener(type, listener, options);
  }

  /**
   * What `on…` is set to.
   *
   * @protected
   * @param {string} type
   * @returns {Handler<any>}
   */
  _handler(type) {
    return this.#handlers.get(type)?.call ?? null;
  }

  /**
   * Set `on…`: one listener, which keeps its place among the others while it is replaced.
   *
   * @protected
   * @param {string} type
   * @param {Handler<any>} value
   */
  _handle(type, value) {
    const call = typeof value === "function" ? value : null;
    const before = this.#handlers.get(type);
    if (before && call) {
      before.call = call; // it keeps its place among the listeners
    } else if (before) {
      this.removeEventListener(type, before.listener);
      this.#handlers.delete(type);
    } else if (call) {
      const slot = { call, listener: (/** @type {Event} */ event) => slot.call.call(this, event) };
      this.#handlers.set(type, slot);
      this.addEventListener(type, slot.listener);
    }
  }
}
