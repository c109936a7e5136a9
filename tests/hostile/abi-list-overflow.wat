;; Returns a list whose size in bytes overflows 32 bits. Must trap.
(run
    (drop (call $fine)) (i32.store (i32.const 1048) (i32.const 8)) (i32.store (i32.const 1052) (i32.const 0x20000001)) (i32.const 1024))
