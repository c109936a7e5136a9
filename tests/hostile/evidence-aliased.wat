;; Gives two million reasons, all of them the same megabyte. Must end at the limit on what it hands over.
(run
    (local $n i32)
    (drop (memory.grow (i32.const 300)))
    (drop (call $fine))
    (loop $on
        (i32.store (i32.add (i32.const 1200000) (i32.mul (local.get $n) (i32.const 8))) (i32.const 65536))
        (i32.store (i32.add (i32.const 1200004) (i32.mul (local.get $n) (i32.const 8))) (i32.const 1048576))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 2000000))))
    (i32.store (i32.const 1048) (i32.const 1200000))
    (i32.store (i32.const 1052) (i32.const 2000000))
    (i32.const 1024))
