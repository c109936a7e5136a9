;; Keeps a value of two megabytes. Must be told that it is too large.
(import "chimera:skill/scratch@0.1.0" "put" (func $put (param i32 i32 i32 i32 i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $put (i32.const 2103) (i32.const 3) (i32.const 65536) (i32.const 2097152) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
