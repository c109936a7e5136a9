;; Calls a tool once more than its manifest allows. Must be told that of the last call.
(import "chimera:skill/mcp@0.1.0" "call-tool" (func $call (param i32 i32 i32 i32 i32 i32 i32)))
(data (i32.const 2048) "socialpublish_postdelete_everythinghostile/well-behavedkeyother")
(run (local $n i32)
    (loop $on
        (call $call (i32.const 2048) (i32.const 6) (i32.const 2054) (i32.const 12) (i32.const 1100) (i32.const 2) (i32.const 1536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 5))))
    (call $pass_on (i32.const 1536)))
