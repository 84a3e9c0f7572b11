// Reads {principals, requests} (JSON) from stdin; writes what IAM would answer to each request, as JSON.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const { principals, requests } = JSON.parse(readFileSync(0, 'utf8'))
const answers = []
for (const { principal, action, resource, context } of requests) {
  const { arn, policies } = principals[principal]
  const accountId = resource.split(':')[4] || arn.split(':')[4]
  const simulated = await runSimulation(
    {
      request: { principal: arn, action, resource: { resource, accountId }, contextVariables: context },
      identityPolicies: policies,
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  )
  answers.push(simulated.resultType === 'error' ? `Error: ${JSON.stringify(simulated.errors)}` : simulated.overallResult)
}
process.stdout.write(JSON.stringify(answers))
