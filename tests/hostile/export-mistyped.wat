;; Exports a function of the right name that takes nothing and returns a number, to make the host read it as what
;; it is not. Must be refused when it is installed.
(component
    (core module $m (func (export "run") (result i32) (i32.const 1024)))
    (core instance $i (instantiate $m))
    (func $run (result u32) (canon lift (core func $i "run")))
    (instance $runner (export "run" (func $run)))
    (export "chimera:skill/runner@0.1.0" (instance $runner)))
