import Tunnel from './tunnel'

export default function Page() {
  return <Tunnel />
}
