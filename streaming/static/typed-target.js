// @ts-check

/**
 * @template E
 * @typedef {((event: E) => any) | {handleEvent(event: E): any} | null} Listener
 */

/**
 * An EventTarget whose events are known: `Events` has the class of the event by each name, `Other` is
 * that of all other names. Only its types say more than an EventTarget's.
 *
 * @template {object} Events
 * @template {Event} Other
 */
export class TypedTarget extends EventTarget {
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
}
