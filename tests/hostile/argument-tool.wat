;; Hands a tool two megabytes of arguments. Must be told that they are too large.
(import "chimera:skill/mcp@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32 i32 i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $call (i32.const 2048) (i32.const 6) (i32.const 2054) (i32.const 12) (i32.const 65536) (i32.const 2097152) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
