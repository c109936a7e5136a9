;; Returns an address at the end of the 32-bit space for its result. Must trap.
(run
    (drop (call $fine)) (i32.const -8))
