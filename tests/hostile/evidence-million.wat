;; Gives a million reasons. Must cost no more than what one call may hand over; the first 32 count.
(run
    (drop (memory.grow (i32.const 150)))
    (drop (call $fine))
    (i32.store (i32.const 1048) (i32.const 65536))
    (i32.store (i32.const 1052) (i32.const 1000000))
    (i32.const 1024))
