;; Returns an odd address for its result. Must trap.
(run
    (drop (call $fine)) (i32.const 1025))
