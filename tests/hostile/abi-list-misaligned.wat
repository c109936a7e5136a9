;; Returns a list at an odd address. Must trap.
(run
    (drop (call $fine)) (i32.store (i32.const 1048) (i32.const 65537)) (i32.store (i32.const 1052) (i32.const 1)) (i32.const 1024))
