;; Uses tasks of the component model, which give way to others. Must be refused when it is installed.
(component (core module $m (func (export "run"))) (core instance $i (instantiate $m)) (func (canon lift (core func $i "run") async)))
