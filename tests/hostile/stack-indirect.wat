;; Two functions call each other for ever through a table. Must end at the limit on the stack.
(type $f (func (param i32) (result i32)))
(table 2 funcref)
(elem (i32.const 0) $ping $pong)
(func $ping (type $f) (i32.add (i32.const 1) (call_indirect (type $f) (local.get 0) (i32.const 1))))
(func $pong (type $f) (i32.add (i32.const 1) (call_indirect (type $f) (local.get 0) (i32.const 0))))
(run (call $ping (i32.const 0)))
