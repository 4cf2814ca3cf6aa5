// Loaded before OpenHIM. Its mongoose writes array additions in a way that databases have dropped.
const mongoose = require(require.resolve('mongoose', { paths: [process.cwd()] }))
mongoose.plugin(schema => { schema.set('usePushEach', true) })
