;; Returns a result that is neither of the two. Must trap.
(run
    (drop (call $fine)) (i32.store8 (i32.const 1024) (i32.const 2)) (i32.const 1024))
