;; Fails with a code and a message of a megabyte full of escape sequences. Must be cut and made harmless.
(run
    (drop (memory.grow (i32.const 40)))
    (memory.fill (i32.const 65536) (i32.const 27) (i32.const 2000000))
    (i32.store8 (i32.const 1024) (i32.const 1))
    (i32.store8 (i32.const 1032) (i32.const 2))
    (i32.store (i32.const 1036) (i32.const 65536)) (i32.store (i32.const 1040) (i32.const 1000000))
    (i32.store (i32.const 1044) (i32.const 65536)) (i32.store (i32.const 1048) (i32.const 1000000))
    (i32.store8 (i32.const 1056) (i32.const 0))
    (i32.const 1024))
